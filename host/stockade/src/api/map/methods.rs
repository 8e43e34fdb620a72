//! How a pool's callers begin a map.

use serde::Serialize;

use super::{FedMap, Map, MapAll, Singles};
use crate::api::pool::Pool;
use crate::api::task::TaskResult;
use crate::call::arguments::Arguments;
use crate::call::command::{Command, CommandOutput};
use crate::call::target::{OWN_ENTRY, Target};

/// Maps over many items.
impl Pool {
    /// Applies a function of one parameter to every item of `items`, in order.
    ///
    /// Lazy: takes items only as results are taken, and a few ahead to keep every worker busy.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("tasks.wasm").build()?;
    /// for count in pool.map::<u64, _, _>("word_count", ["to be", "or not to be"]) {
    ///     println!("{}", count?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<T, A, I>(&self, target: impl Into<Target>, items: I) -> Map<T, Singles<I::IntoIter>>
    where
        T: TaskResult,
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        Map::new(self.clone(), target.into(), Singles(items.into_iter()))
    }

    /// As [`map`](Self::map), for functions of several parameters: items are whole [`Arguments`].
    pub fn starmap<T, A, I>(&self, target: impl Into<Target>, items: I) -> Map<T, I::IntoIter>
    where
        T: TaskResult,
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        Map::new(self.clone(), target.into(), items.into_iter())
    }

    /// A map over items that are pushed as they come, as [`Function::feed`](crate::Function::feed). The
    /// target is looked up with the first item; where there is none, each item has that error.
    pub fn feed<T: TaskResult>(&self, target: impl Into<Target>) -> FedMap<T> {
        FedMap::new(self.clone(), target.into())
    }

    /// Submits a task for every item of `items` at once, and returns the results in order.
    ///
    /// Blocks as [`submit`](Self::submit). For chunks or options, use
    /// [`Map::submit_all`].
    pub fn map_all<T, A, I>(&self, target: impl Into<Target>, items: I) -> MapAll<T>
    where
        T: TaskResult,
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        self.map(target, items).submit_all()
    }

    /// As [`map_all`](Self::map_all), for functions of several parameters.
    pub fn starmap_all<T, A, I>(&self, target: impl Into<Target>, items: I) -> MapAll<T>
    where
        T: TaskResult,
        A: Arguments,
        I: IntoIterator<Item = A>,
    {
        self.starmap(target, items).submit_all()
    }

    /// Runs the pool's module as a program once for every one of `commands`, in order: each in an
    /// instance of its own, from the entry that it names or else the module's own. Lazy and bounded
    /// as [`map`](Self::map).
    ///
    /// An exit code that is not 0 is a result, not an error. In a pool of several modules, use
    /// [`starmap`](Self::starmap) with the target `(module, "_start")`.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = stockade::Pool::builder().module("qjs.wasm").build()?;
    /// use stockade::Command;
    ///
    /// let scripts = ["print(6 * 7)", "print('a' + 1)"];
    /// let commands = scripts.map(|script| Command::new("qjs").args(["-e", script]));
    /// for output in pool.map_command(commands) {
    ///     let output = output?;
    ///     println!("{} {}", output.exit_code, String::from_utf8_lossy(&output.stdout.bytes));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_command<I>(&self, commands: I) -> Map<CommandOutput, I::IntoIter>
    where
        I: IntoIterator<Item = Command>,
    {
        self.starmap(OWN_ENTRY, commands)
    }
}
