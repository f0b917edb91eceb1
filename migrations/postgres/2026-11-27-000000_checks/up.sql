-- Of SQLite alone; the versions stay the same in all three.
SELECT 1;
