"""`python -m controller`."""

from controller.main import main

if __name__ == "__main__":
    main()
