"""A checkout loads the plugin here; what is installed, `codi-bench run` loads it."""

pytest_plugins = ["codi_bench.plugin"]
