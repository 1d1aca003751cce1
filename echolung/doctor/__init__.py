"""Whether all is here that echolung needs: one module a group of checks; none writes, but to try whether it can."""
