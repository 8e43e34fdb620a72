//! A program that uses pools, for what can be seen only from outside of one.
//!
//! `host busy MODULE` keeps two workers busy forever, writes their process numbers to stdout, and
//! waits to be killed. `host return MODULE`, `host drop MODULE` and `host exit MODULE` do the same and
//! end by themselves: with the pool alive in a static, with the pool dropped, and in the middle of
//! everything. `host many MODULE` makes pools and ends them in every way, and writes how many
//! descriptors and threads it has after the first round and after the last.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stockade::{Limits, Pool, TaskHandle};

/// The pool that nobody drops.
static POOL: OnceLock<Pool> = OnceLock::new();

/// The exit code by which a test knows that it was this program that ended itself.
const EXIT_CODE: i32 = 7;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().context("the first argument is what to do")?;
    let module = arguments.next().context("the second argument is a module")?;
    match mode.as_str() {
        "busy" => Ok(busy(&module)?.1.result()?),
        "return" => {
            POOL.set(busy(&module)?.0).map_err(|_| anyhow::anyhow!("there is a pool already"))
        }
        "drop" => busy(&module).map(drop),
        "exit" => {
            let _pool = busy(&module)?;
            std::process::exit(EXIT_CODE)
        }
        "many" => many(&module),
        unknown => bail!("unknown mode {unknown}"),
    }
}

/// A pool whose workers are busy forever, and one of their tasks.
fn busy(module: &str) -> Result<(Pool, TaskHandle<()>)> {
    let limits = Limits::default().wall_time(None);
    let builder = Pool::dual().module(module).limits(limits);
    let pool = builder.shutdown_grace_period(Duration::from_millis(100)).build()?;
    let handles = [pool.submit::<()>("spin", ())?, pool.submit::<()>("spin", ())?];
    while handles.iter().any(|handle| handle.progress().is_none()) {
        std::thread::yield_now();
    }
    let mut stdout = std::io::stdout().lock();
    for worker in pool.workers() {
        writeln!(stdout, "{}", worker.pid)?;
    }
    stdout.flush()?;
    let [handle, _] = handles;
    Ok((pool, handle))
}

fn many(module: &str) -> Result<()> {
    const ROUNDS: usize = 10;
    let mut counts = Vec::new();
    for _ in 0..ROUNDS {
        round(module)?;
        counts.push(open()?);
    }
    writeln!(std::io::stdout(), "{:?}\n{:?}", counts[0], counts[ROUNDS - 1])?;
    Ok(())
}

/// Pools whose ends differ.
fn round(module: &str) -> Result<()> {
    let pool = || Pool::dual().module(module);
    let limits = Limits::default().wall_time(Duration::from_millis(50));
    // Results and big arguments; deadlines and traps; then a drop.
    let working = pool().build()?;
    working.run::<Vec<u8>>("echo", stockade::Bytes(vec![7; 1 << 20]))?;
    let map = working.starmap::<Vec<u8>, _, _>("echo", vec![stockade::Bytes(vec![1]); 100]);
    anyhow::ensure!(map.filter(Result::is_ok).count() == 100);
    working.shutdown();
    let dropped = pool().limits(limits).build()?;
    anyhow::ensure!(dropped.run::<()>("spin", stockade::Bytes(vec![])).is_err());
    anyhow::ensure!(dropped.run::<()>("trap", stockade::Bytes(vec![])).is_err());
    let abandoned = dropped.submit::<()>("spin", stockade::Bytes(vec![]))?;
    drop(dropped);
    anyhow::ensure!(abandoned.result().is_err());
    // An initializer that works, one that does not, one that is interrupted, one that never began.
    let number = || stockade::Bytes(vec![9, 0, 0, 0]);
    let initialised = pool().initializer("start_counting_at", number()).build()?;
    initialised.run::<Vec<u8>>("count", number())?;
    initialised.kill();
    let broken = pool().initializer("trap", number()).build()?;
    anyhow::ensure!(broken.run::<Vec<u8>>("count", number()).is_err());
    let interrupted = pool().initializer("spin", number()).build()?;
    interrupted.submit::<Vec<u8>>("count", number())?;
    interrupted.kill();
    drop(pool().initializer("trap", number()).build()?);
    // A refusal.
    anyhow::ensure!(pool().module_bytes("bad", "no wasm").build().is_err());
    Ok(())
}

/// Descriptors and threads of this process.
fn open() -> Result<(usize, usize)> {
    let count = |path: &str| Ok::<_, std::io::Error>(std::fs::read_dir(path)?.count());
    Ok((count("/proc/self/fd")?, count("/proc/self/task")?))
}
