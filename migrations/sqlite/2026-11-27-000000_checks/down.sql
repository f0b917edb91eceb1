PRAGMA writable_schema = ON;
UPDATE sqlite_master
SET sql = replace(
    sql,
    'CHECK (origin = ''source'' OR origin = ''archive'' OR origin = ''rollup'')',
    'CHECK (origin IN (''source'', ''archive'', ''rollup''))'
)
WHERE type = 'table' AND name = 'candles';
UPDATE sqlite_master
SET sql = replace(
    sql,
    'CHECK (state = ''full'' OR state = ''empty'' OR state = ''missing'' OR state = ''unreachable'')',
    'CHECK (state IN (''full'', ''empty'', ''missing'', ''unreachable''))'
)
WHERE type = 'table' AND name = 'coverage';
PRAGMA writable_schema = RESET;
CREATE TABLE changed (x INTEGER);
DROP TABLE changed;
