"""`python -m codi_bench.cli`: the command line where its script is not on the path."""

from codi_bench.cli import main

main()
