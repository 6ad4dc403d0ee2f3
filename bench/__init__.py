"""Reproducible measurements of forwarder beside rsyslog and syslog-ng: `python -m bench`."""
