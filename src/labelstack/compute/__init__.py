"""Where tasks run: here, or on a Dask cluster; jobs and results are JSON, files travel as files."""
