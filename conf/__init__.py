"""Every choice a user has, as Hydra groups; `pkg://initstudy.conf` in a `hydra.searchpath`."""
