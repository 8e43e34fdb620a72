//! A pool whose counters a Prometheus server can scrape.
//!
//! ```text
//! Pool ── metrics facade ─► recorder ─► http://127.0.0.1:9464/metrics ◄── Prometheus
//!   └ sample_metrics: gauges, before they are read
//! ```
//!
//! Usage: `STOCKADE_WORKER=…/stockade-worker prometheus MODULE`, with the guest `wordcount`. Runs some
//! tasks, shows what a scrape would find, and ends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use stockade::Pool;

/// Bounds of the histograms' buckets, in seconds.
const SECONDS: [f64; 7] = [0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0, 60.0];

fn main() -> Result<()> {
    let module = std::env::args_os().nth(1).context("which module? `wordcount.wasm`")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
    // A thread of its own answers scrapes from here on.
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install()?;
    stockade::describe_metrics();

    let pool = Pool::builder().module(module).max_workers(2).metrics().build()?;
    for count in pool.map::<u64, _, _>("word_count", ["to be", "or not", "to be that is"]) {
        count?;
    }
    // A program that lives long does this every few seconds.
    pool.sample_metrics();
    print!("{}", scrape(address)?);
    pool.shutdown();
    Ok(())
}

/// What a server would find.
fn scrape(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").context("no answer")?.1.to_owned())
}
