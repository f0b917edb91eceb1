//! `import` and files that are broken, hostile, or too much: each costs itself only, in little memory and time.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::import::{KAGGLE, counts};
use crate::support::test_db::{Backend, TestDb};
use crate::support::workdir::{Cmd, Output};

fn database() -> TestDb {
    let db = TestDb::new(Backend::Sqlite).expect("SQLite");
    db.setup();
    db
}

fn days(count: usize) -> String {
    let line = |day: usize| {
        let date = chrono::DateTime::from_timestamp(1_400_000_000 + day as i64 * 86_400, 0).unwrap().format("%Y-%m-%d");
        format!("{day},Bitcoin,BTC,{date} 23:59:59,9,1,2,{}.5,{day},0.0\n", 3 + day % 5)
    };
    KAGGLE.to_owned() + &(0..count).map(line).collect::<String>()
}

fn zip(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Runs it and looks at its memory meanwhile; the peak in MiB.
fn peak(cmd: Cmd) -> (Output, u64) {
    let mut running = cmd.spawn();
    let mut peak = 0;
    while running.is_running() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
        let told = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<u64> = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    (running.wait(), peak >> 10)
}

/// The day that a member was written on was not over, whenever the archive was made, copied or unpacked.
#[test]
fn a_member_of_an_archive_has_a_date_of_its_own() {
    let db = database();
    let archive = |name: &str, day: u8, hour: u8| {
        let written = zip::DateTime::from_date_and_time(2014, 5, day, hour, 0, 0).unwrap();
        let mut zip = ZipWriter::new(File::create(db.workdir().file(name)).unwrap());
        zip.start_file("days.csv", SimpleFileOptions::default().last_modified_time(written)).unwrap();
        zip.write_all(days(5).as_bytes()).unwrap();
        zip.finish().unwrap();
    };
    let finals = || db.lines("SELECT SUBSTR(open_time, 1, 10) FROM candles WHERE final = FALSE");
    archive("noon.zip", 17, 12);
    assert_eq!(counts(&db.coinetl(&["import", "noon.zip"]).json(0)), [5, 5, 0, 0, 0]);
    assert_eq!(finals(), ["2014-05-17"]);
    // A later one knows the end of that day.
    archive("midnight.zip", 18, 0);
    assert_eq!(counts(&db.coinetl(&["import", "midnight.zip"]).json(0)), [5, 1, 1, 4, 0]);
    assert_eq!(finals(), [""; 0]);
}

#[test]
fn archives_and_folders_are_read_in_the_order_of_names() {
    let db = database();
    let dir = db.workdir();
    let text = days(5);
    std::fs::create_dir_all(dir.file("f/deep")).unwrap();
    // One that restates the last day, read after the others by its name.
    let newer = text.replace(",7.5,4,0.0", ",8.5,4,0.0");
    zip(
        &dir.file("f/b.zip"),
        &[
            ("z.csv", newer.as_bytes()),
            ("a/x.csv", text.as_bytes()),
            ("__MACOSX/._z.csv", b"junk"),
            ("README.md", b"# x"),
        ],
    );
    dir.write("f/a.csv", &text);
    dir.write("f/.hidden.csv", "junk");
    dir.write("f/manifest.json", "{\"rows\": 5}");
    dir.write("f/deep/whole.csv.tmp", "junk");
    // Circles.
    std::os::unix::fs::symlink("..", dir.file("f/deep/up")).unwrap();
    std::os::unix::fs::symlink("up", dir.file("f/deep/again")).unwrap();
    std::os::unix::fs::symlink("../a.csv", dir.file("f/deep/a.csv")).unwrap();
    let result = db.coinetl(&["import", "f", "f/a.csv"]).json(0);
    // What one transaction restates is one row of it.
    assert_eq!(counts(&result), [15, 5, 0, 10, 0], "{result}");
    let files: Vec<&str> =
        result["files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["f/a.csv", "f/b.zip!a/x.csv", "f/b.zip!z.csv"]);
    assert_eq!(db.lines("SELECT close FROM candles ORDER BY open_time")[4], "8.5");
    // A link that leads nowhere is told, and stops nobody.
    std::os::unix::fs::symlink("nowhere", dir.file("f/lost.csv")).unwrap();
    let lost = db.coinetl(&["import", "f"]).run().expect(3);
    assert!(lost.stderr.contains("f/lost.csv: No such file"), "{lost}");
}

#[test]
fn archives_that_mean_no_good_are_refused_with_the_reason() {
    let db = database();
    let dir = db.workdir();
    let text = days(3);
    let refuse = |name: &str, why: &str| {
        let started = Instant::now();
        let (output, peak) = peak(db.coinetl(&["import", name]));
        let output = output.expect(3);
        assert!(output.stderr.contains(why), "{why}: {output}");
        assert!(started.elapsed() < Duration::from_secs(20) && peak < 64, "{peak} MiB\n{output}");
        assert_eq!(db.number("SELECT COUNT(*) FROM candles"), 0, "{output}");
    };
    for name in ["../out.csv", "/tmp/out.csv", "a/../../out.csv"] {
        zip(&dir.file("escape.zip"), &[("good.csv", text.as_bytes()), (name, text.as_bytes())]);
        refuse("escape.zip", "has a member outside of its folder");
        assert!(!dir.path().parent().unwrap().join("out.csv").exists());
    }
    // A bomb that admits what it is, and one that lies.
    let bomb = [KAGGLE.as_bytes().to_vec(), vec![b'\n'; 64 << 20]].concat();
    zip(&dir.file("bomb.zip"), &[("bomb.csv", &bomb)]);
    refuse("bomb.zip", "bomb.csv: it becomes more than 200 times larger");
    let mut lying = std::fs::read(dir.file("bomb.zip")).unwrap();
    let honest = (bomb.len() as u32).to_le_bytes();
    let places: Vec<usize> = memchr::memmem::find_iter(&lying, &honest).collect();
    assert!(!places.is_empty());
    for at in places {
        lying[at..at + 4].copy_from_slice(&100_000_u32.to_le_bytes());
    }
    std::fs::write(dir.file("liar.zip"), lying).unwrap();
    refuse("liar.zip", "liar.zip!bomb.csv: ");
    zip(&dir.file("inner.zip"), &[("a.csv", text.as_bytes())]);
    zip(&dir.file("nested.zip"), &[("inner.zip", &std::fs::read(dir.file("inner.zip")).unwrap())]);
    refuse("nested.zip", "nested.zip!inner.zip: it is an archive in an archive");
    // Encrypted is a bit in both of a member's headers.
    let mut locked = std::fs::read(dir.file("inner.zip")).unwrap();
    let central = memchr::memmem::find(&locked, b"PK\x01\x02").unwrap();
    locked[6] |= 1;
    locked[central + 8] |= 1;
    std::fs::write(dir.file("locked.zip"), &locked).unwrap();
    refuse("locked.zip", "locked.zip!a.csv: it is encrypted");
    let whole = std::fs::read(dir.file("inner.zip")).unwrap();
    for part in [whole.len() / 2, whole.len() - 5, 30] {
        std::fs::write(dir.file("cut.zip"), &whole[..part]).unwrap();
        refuse("cut.zip", "cut.zip: the zip archive is cut off or broken");
    }
    // A bit that fell over: nothing of such a member is believed.
    let mut stored = ZipWriter::new(File::create(dir.file("rot.zip")).unwrap());
    stored.start_file("a.csv", SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
    stored.write_all(text.as_bytes()).unwrap();
    stored.finish().unwrap();
    let mut rot = std::fs::read(dir.file("rot.zip")).unwrap();
    let at = memchr::memmem::find(&rot, b"3.5").unwrap();
    rot[at] = b'4';
    std::fs::write(dir.file("rot.zip"), rot).unwrap();
    refuse("rot.zip", "rot.zip!a.csv: ");
    let mut crowd = ZipWriter::new(File::create(dir.file("crowd.zip")).unwrap());
    for member in 0..10_001 {
        crowd.start_file(format!("{member}.csv"), SimpleFileOptions::default()).unwrap();
    }
    crowd.finish().unwrap();
    refuse("crowd.zip", "10001 members, more than 10000");
    // More than fit into the small form of the list's end.
    let mut crowd = ZipWriter::new(File::create(dir.file("crowd.zip")).unwrap());
    for member in 0..70_000 {
        crowd
            .start_file(format!("{member}"), SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
            .unwrap();
    }
    crowd.finish().unwrap();
    refuse("crowd.zip", "70000 members, more than 10000");
    // None of them stops the others.
    dir.write("good.csv", &text);
    let result = db.coinetl(&["import", "nested.zip", "locked.zip", "good.csv", "cut.zip"]).json(3);
    assert_eq!(counts(&result), [3, 3, 0, 0, 0], "{result}");
    assert_eq!(db.number("SELECT COUNT(*) FROM import_positions"), 0);
}

#[test]
fn files_that_are_no_history_are_told_and_the_others_go_on() {
    let db = database();
    let dir = db.workdir();
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(days(3).bytes().flat_map(|byte| [byte, 0])).collect();
    let cases: [(&str, &[u8], &str); 6] = [
        ("utf16.csv", &utf16, "it is UTF-16"),
        ("empty.csv", b"", "it is empty"),
        ("weather.csv", b"date,weather\n2020-01-01,fine\n", "it begins with \"date,weather\""),
        ("packed.csv", b"\x1f\x8b\x08\0\0\0\0\0", "it is compressed by gzip"),
        ("quotes.csv", b"source,pair,sequence,observed_at,bid,ask\n", "only prices and candles"),
        ("broken.parquet", b"PAR1....PAR1", "broken.parquet: "),
    ];
    for (name, bytes, why) in cases {
        std::fs::write(dir.file(name), bytes).unwrap();
        let output = db.coinetl(&["import", name]).run().expect(3);
        assert!(output.stderr.contains(why) && output.stderr.contains(name), "{output}");
    }
    assert_eq!(db.lines("SELECT DISTINCT status FROM runs"), ["partial"]);
    dir.write("zz.csv", &format!("\u{feff}{}", days(3)));
    // Cut in a line: that line is rejected, the rest is there.
    let text = days(6);
    dir.write("cut.csv", &text[..text.len() - 20]);
    let result = db.coinetl(&["import"]).arg(dir.path()).json(3);
    assert_eq!(counts(&result), [9, 5, 0, 3, 1], "{result}");
    let error = result["error"].as_str().unwrap();
    assert!(error.contains("Kaggle") && error.contains("weather.csv") && error.contains("1 record(s)"), "{error}");
}

/// A gibibyte without a line end costs neither memory nor the rows around it.
#[test]
fn a_line_of_a_gigabyte_is_one_rejected_row() {
    let db = database();
    let path = db.workdir().file("long.csv");
    let mut file = File::create(&path).unwrap();
    file.write_all(days(2).as_bytes()).unwrap();
    // A hole takes no room on the disk.
    file.seek(SeekFrom::Current(1 << 30)).unwrap();
    file.write_all(b"\n9,Bitcoin,BTC,2020-01-01 23:59:59,9,1,2,3,4,5\n").unwrap();
    drop(file);
    let started = Instant::now();
    let (output, peak) = peak(db.coinetl(&["import", "long.csv", "--output", "json"]).timeout(Duration::from_secs(60)));
    let output = output.expect(3);
    assert_eq!(counts(&output.json()), [4, 3, 0, 0, 1], "{output}");
    assert!(peak < 64, "{peak} MiB in {:?}", started.elapsed());
    let letter = db.lines("SELECT LENGTH(payload), error FROM dead_letters");
    assert_eq!(letter, ["4096|line 4: the line is longer than 1048576 bytes"]);
}

/// A pipe is read as it comes, once.
#[test]
fn a_pipe_can_be_imported() {
    let db = database();
    let pipe = db.workdir().file("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let write = |path: PathBuf, text: String| std::thread::spawn(move || std::fs::write(path, text));
    let writer = write(pipe.clone(), days(50_000));
    let result = db.coinetl(&["import", "pipe"]).json(0);
    writer.join().unwrap().unwrap();
    assert_eq!(counts(&result)[0], 50_000, "{result}");
    let writer = write(pipe, days(50));
    let refused = db.coinetl(&["import", "pipe", "--source", "coingecko"]).run().expect(2);
    assert!(refused.stderr.contains("pipe and can be read only once"), "{refused}");
    // Nobody reads the rest of it.
    let _ = writer.join();
}

/// Four times the rows, the same memory.
#[test]
fn memory_does_not_grow_with_the_rows() {
    let text = days(20_000);
    let head = KAGGLE.len();
    let mut peaks = Vec::new();
    for copies in [5, 20] {
        let db = database();
        let mut file = File::create(db.workdir().file("many.csv")).unwrap();
        file.write_all(KAGGLE.as_bytes()).unwrap();
        for copy in 0..copies {
            let coin = text[head..].replace(",Bitcoin,BTC,", &format!(",Coin {copy},C{copy},"));
            file.write_all(coin.as_bytes()).unwrap();
        }
        let import = db.coinetl(&["import", "many.csv", "--output", "json"]).timeout(Duration::from_secs(300));
        let (output, peak) = peak(import);
        assert_eq!(counts(&output.expect(0).json())[1], copies * 20_000);
        peaks.push(peak);
    }
    // The limit of a release is 64 (`scripts/bench import`); a debug build has some ten more of its own code.
    assert!(peaks[1] <= 74 && peaks[1] <= peaks[0] + 16, "{peaks:?} MiB");
}
