//! procspawn's pool, which runs functions of this program natively in processes of its own.
//!
//! `peer-procspawn WORKERS` answers on stdin and stdout: `ready 0`, and `window N`: tasks a second of
//! N tasks that give back their 64 bytes, 32 at a time.

#[path = "../../../reference/src/serve.rs"]
mod serve;

use std::collections::VecDeque;
use std::error::Error;
use std::time::Instant;

const WINDOW: usize = 32;
const PAYLOAD_BYTES: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    procspawn::init();
    let workers = std::env::args().nth(1).ok_or("usage: peer-procspawn WORKERS")?.parse()?;
    let pool = procspawn::Pool::new(workers)?;
    serve::serve(|question, amount| match question {
        "ready" => window(&pool, 100),
        "window" => window(&pool, amount as usize),
        _ => Err(format!("no question is called {question}").into()),
    })?;
    pool.shutdown();
    Ok(())
}

fn window(pool: &procspawn::Pool, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..tasks {
        under_way.push_back(pool.spawn(vec![7_u8; PAYLOAD_BYTES], |payload: Vec<u8>| payload));
        if under_way.len() == WINDOW
            && let Some(task) = under_way.pop_front()
        {
            task.join()?;
        }
    }
    for task in under_way {
        task.join()?;
    }
    Ok(tasks as f64 / started.elapsed().as_secs_f64())
}
