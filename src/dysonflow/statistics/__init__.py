"""Laws, estimators and tests that know of no machine, model or file."""
