"""Text kernels: columnar functions on Arrow string arrays that know nothing of datasets or stages."""
