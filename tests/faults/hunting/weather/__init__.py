"""Servers and proxies in a process of their own, which are made to fail during a hunt."""
