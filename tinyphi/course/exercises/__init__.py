"""The exercises, one file a notebook. `tinyphi.course.exercise` finds them by their names."""
