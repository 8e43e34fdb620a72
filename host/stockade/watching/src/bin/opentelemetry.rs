//! A pool whose tasks are spans of OpenTelemetry, each within the request that submitted it.
//!
//! ```text
//! request ─┬ task word_count ─┐  tracing ─► tracing-opentelemetry ─► exporter: here stdout, else OTLP
//!          └ task word_count ─┘
//! ```
//!
//! Usage: `STOCKADE_WORKER=…/stockade-worker opentelemetry MODULE`, with the guest `wordcount`.

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use stockade::Pool;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> Result<()> {
    let module = std::env::args_os().nth(1).context("which module? `wordcount.wasm`")?;
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .build();
    // Tasks are told at the level debug; their children are nobody's but the caller's.
    let wanted = Targets::new()
        .with_target("stockade::task", LevelFilter::DEBUG)
        .with_target("requests", LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("stockade"));
    tracing_subscriber::registry().with(layer.with_filter(wanted)).init();

    let pool = Pool::builder().module(module).max_workers(2).build()?;
    let words =
        tracing::info_span!(target: "requests", "request", route = "/count").in_scope(|| {
            let first = pool.submit::<u64>("word_count", ("to be or not",))?;
            let second = pool.submit::<u64>("word_count", ("to be",))?;
            anyhow::Ok(first.result()? + second.result()?)
        })?;
    println!("{words} words");
    pool.shutdown();
    provider.shutdown()?;
    Ok(())
}
