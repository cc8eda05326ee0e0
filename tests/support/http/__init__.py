"""Clients and backends that speak HTTP byte by byte."""
