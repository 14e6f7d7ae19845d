"""One file a data set: `read(...)` returns its `tasks.rows.Rows`."""
