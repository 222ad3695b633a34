"""For The Littlest JupyterHub: copy to /opt/tljh/config/jupyterhub_config.d/, then `tljh-config reload`."""

c = get_config()  # noqa: F821
c.Spawner.environment.update(
    {
        "TINYPHI_CACHE": "/srv/tinyphi",  # one copy of each model for everybody; may be read-only
        "TINYPHI_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",  # or every kernel takes all cores for itself
    }
)
