"""What people do with a project, one file per job; `penstock.wire` puts them together, `penstock.cli` prints them."""
