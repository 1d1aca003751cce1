"""The command line: parse, call, show. One module a group of commands; `app` ties them together."""
