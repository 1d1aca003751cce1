"""`echolung data …`, a module a command."""
