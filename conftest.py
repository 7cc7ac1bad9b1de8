"""Everything that the suite needs lives in the plugin `codi_bench.plugin`, an entry point of the installed package."""
