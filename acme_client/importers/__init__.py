"""Imports certificates, keys and accounts that other programs have obtained.

    findings    what a reader yields: certificates, accounts, and what was skipped and why
    safe_tree   reading another program's files without being led elsewhere
    parsing     chains, keys and JSON as they come from such files
    directories which CA is meant where a source does not say it in full
    certbot · caddy · traefik · acme_sh · lego      the readers, one format each
    sources     the table of them, and where each program usually keeps its files
    selection   which certificate goes where, which account is taken     (pure)
    writer      the one place that writes: into certificates/ and accounts/

A reader trusts no file: another user may have written it. A broken file raises nothing; it is
skipped, with its name and the reason, and the others are read.
"""
