from tokprof.cli import main

main()
