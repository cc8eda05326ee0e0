"""One certificate's life: its states, its record, when it is renewed, and which files hold it.

lifecycle    the states, as one table                              (pure)
transitions  what each event does to a certificate's record        (pure)
record       what is remembered of a certificate, as JSON          (pure)
managed      what is known of a certificate while the process lives
renewal      when a certificate is due                             (pure)
retry        how long to wait after a failure; Retry-After         (pure)
ca_choice    which CA is asked, and how names are proven           (pure)
clock_skew   whether the CA's clock and ours agree                 (pure)
folder_names which folder is whose
repository   certificates, with their records, in a store
unfinished_order  an order that is under way, noted for the process after this one
recovery     which of several certificates on the disk is served
"""
