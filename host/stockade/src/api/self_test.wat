;; What `Pool::test` runs beside a pool's own modules: a function over numbers, a task, a trap, and a
;; loop without end. One page of memory and no table, so that it runs under any limits.
(module
  (import "stockade" "input_len" (func $input_len (result i32)))
  (import "stockade" "input_read" (func $input_read (param i32 i32 i32)))
  (import "stockade" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1 1)
  (func (export "add") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "echo") (result i32)
    (call $input_read (i32.const 0) (i32.const 0) (call $input_len))
    (call $output_write (i32.const 0) (call $input_len))
    (i32.const 0))
  (func (export "trap") (param i64) unreachable)
  (func (export "spin") (param i64) (loop $again (br $again))))
