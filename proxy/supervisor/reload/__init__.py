"""A reload: from one generation of workers to the next.

reload         prepares, starts and completes a new generation, or refuses it
config_source  where the configuration is read from
generations    configurations in force, each with its workers
plan           what a reload would change                       (pure)
immutable      settings that need a restart                     (pure)
file_watch     whether the processes still see what is on disk
"""
