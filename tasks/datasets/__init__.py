"""One file a data set: `read(...)` returns its `nufed.tasks.rows.Rows`."""
