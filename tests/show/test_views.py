"""What holds for all views together; each has a test file of its own."""

import subprocess
import sys


def test_importing_the_views_does_not_import_matplotlib() -> None:
    code = "import sys, tinyphi.show; assert not {'matplotlib', 'PIL', 'anywidget'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
