"""What a store says of a study, as plain data for reports and commands; differences, exchange of files, the machine."""
