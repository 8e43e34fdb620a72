//! What a task wrote and what it used, on stderr.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};
use stockade::{Captured, Status, TaskReport};

use crate::escape;

/// Writes what the task wrote to stdout, stderr and its log: each line marked with where it comes
/// from, control characters escaped.
pub(crate) fn write_captured(to: &mut dyn Write, report: &TaskReport) -> io::Result<()> {
    for (name, captured) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
        write_stream(to, name, captured)?;
    }
    for line in &report.log {
        let level = match line.level {
            1 => "error",
            2 => "warn",
            3 => "info",
            4 => "debug",
            _ => "trace",
        };
        for text in escape::text(&line.message).lines() {
            writeln!(to, "log {level} | {text}")?;
        }
    }
    if report.log_dropped > 0 {
        writeln!(to, "log | ({} lines more, dropped; see --stdio-limit)", report.log_dropped)?;
    }
    Ok(())
}

fn write_stream(to: &mut dyn Write, name: &str, captured: &Captured) -> io::Result<()> {
    for line in escape::bytes(&captured.bytes).lines() {
        writeln!(to, "{name} | {line}")?;
    }
    if captured.dropped > 0 {
        let dropped = size(captured.dropped);
        writeln!(to, "{name} | ({dropped} more, dropped; see --stdio-limit)")?;
    }
    Ok(())
}

/// Writes what the task used, in aligned lines: of a deterministic one what is the same in every run.
pub(crate) fn write_report(
    to: &mut dyn Write,
    report: &TaskReport,
    deterministic: bool,
) -> io::Result<()> {
    let ended = match report.status {
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        _ => "not ended",
    };
    let mut row = |name: &str, value: String| writeln!(to, "{name:<12} {value}");
    row("target", escape::line(&report.target))?;
    row("ended", ended.into())?;
    if !deterministic {
        row("wall time", duration(report.wall_time))?;
        row("cpu time", duration(report.cpu_time))?;
        row("queue wait", duration(report.queue_wait))?;
    }
    row("memory", format!("{} at most", size(report.memory_peak_bytes)))?;
    if let Some(fuel) = report.fuel {
        row("fuel", fuel.to_string())?;
    }
    if deterministic {
        return Ok(());
    }
    match report.worker {
        Some(worker) => row("worker", format!("{worker}, attempt {}", report.attempt)),
        None => row("worker", "none".into()),
    }
}

/// What the task used and wrote, for machines: of a deterministic one what is the same in every run.
pub(crate) fn to_json(report: &TaskReport, deterministic: bool) -> Value {
    let stream = |captured: &Captured| json!({ "text": String::from_utf8_lossy(&captured.bytes), "dropped_bytes": captured.dropped });
    let log = report.log.iter().map(|line| json!({ "level": line.level, "message": line.message }));
    let mut value = json!({
        "target": report.target,
        "memory_peak_bytes": report.memory_peak_bytes,
        "fuel": report.fuel,
        "stdout": stream(&report.stdout),
        "stderr": stream(&report.stderr),
        "log": log.collect::<Vec<_>>(),
        "log_dropped": report.log_dropped,
    });
    if !deterministic {
        value["wall_seconds"] = report.wall_time.as_secs_f64().into();
        value["cpu_seconds"] = report.cpu_time.as_secs_f64().into();
        value["queue_seconds"] = report.queue_wait.as_secs_f64().into();
        value["attempt"] = report.attempt.into();
    }
    value
}

/// A duration in the unit that suits it.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_nanos() {
        0..1_000 => format!("{} ns", time.as_nanos()),
        1_000..1_000_000 => format!("{:.1} us", time.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// A number of bytes in the unit that suits it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_in_the_unit_that_suits_them() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(5 << 40), "5120.0 GiB");
        assert_eq!(duration(Duration::from_nanos(999)), "999 ns");
        assert_eq!(duration(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(duration(Duration::from_millis(61_500)), "61.50 s");
    }

    #[test]
    fn a_stream_is_marked_line_by_line_and_where_it_is_cut() {
        let captured = Captured { bytes: b"one\n\x1b[2Jtwo".to_vec(), dropped: 2048 };
        let mut written = Vec::new();
        write_stream(&mut written, "stdout", &captured).unwrap();
        let expected = "stdout | one\nstdout | \\u{1b}[2Jtwo\n\
                        stdout | (2.0 KiB more, dropped; see --stdio-limit)\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
