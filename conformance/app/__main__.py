"""`python -m conformance.app`."""

from conformance.app.main import main

raise SystemExit(main())
