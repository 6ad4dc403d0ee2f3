"""The worked examples of docs/plugin-guide.md and their tests; `forwarder new` makes packages of them."""
