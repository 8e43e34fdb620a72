;; Some tasks of the ABI's test vectors, by hand: every host call that a task needs, and no SDK.
;;
;;   stockade run vectors.wat echo --bytes FILE
;;   stockade run vectors.wat hosted
;;   stockade run vectors.wat half 3
(module
  (import "stockade" "input_len" (func $input_len (result i32)))
  (import "stockade" "input_codec" (func $input_codec (result i32)))
  (import "stockade" "input_read" (func $input_read (param $into i32) (param $offset i32) (param $length i32)))
  (import "stockade" "output_write" (func $output_write (param $from i32) (param $length i32)))
  (import "stockade" "error_write" (func $error_write (param $from i32) (param $length i32)))
  (import "stockade" "remaining_ns" (func $remaining_ns (result i64)))
  (import "stockade" "task_id" (func $task_id (result i64)))

  ;; Pointers of host calls refer to the memory of this name.
  (memory (export "memory") 2)
  (data (i32.const 0) "only raw bytes are understood here")
  (data (i32.const 64) "falsetrue")
  (data (i32.const 80) "0 41")
  (global $loaded (mut i32) (i32.const 0))

  ;; What callers see of the tasks, and where each finds its export.
  (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"task\",\"name\":\"echo\",\"export\":\"stockade.task.echo\",\"doc\":\"Gives back what it is given.\",\"params\":[{\"name\":\"data\",\"type\":\"Bytes\"}],\"result\":\"Bytes\"}\n")
  (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"task\",\"name\":\"hosted\",\"export\":\"stockade.task.hosted\",\"result\":\"bool\"}\n")
  (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"task\",\"name\":\"loaded\",\"export\":\"stockade.task.loaded\",\"result\":\"i64\"}\n")
  (@custom "stockade.tasks" "{\"abi\":1,\"kind\":\"initializer\",\"name\":\"load\",\"export\":\"stockade.task.load\"}\n")

  ;; Gives back what it is given, a page at a time: the input need not fit the memory.
  (func (export "stockade.task.echo") (result i32)
    (local $offset i32)
    (local $length i32)
    (if (call $input_codec) ;; raw is 0
      (then
        (call $error_write (i32.const 0) (i32.const 34))
        (return (i32.const 2)))) ;; the arguments are refused
    (loop $next
      (local.set $length (i32.sub (call $input_len) (local.get $offset)))
      (if (i32.gt_u (local.get $length) (i32.const 65536))
        (then (local.set $length (i32.const 65536))))
      (call $input_read (i32.const 65536) (local.get $offset) (local.get $length))
      (call $output_write (i32.const 65536) (local.get $length))
      (local.set $offset (i32.add (local.get $offset) (local.get $length)))
      (br_if $next (i32.lt_u (local.get $offset) (call $input_len))))
    (i32.const 0))

  ;; Whether this is a numbered task with a deadline, as JSON.
  (func (export "stockade.task.hosted") (result i32)
    (if (i32.and
          (i64.gt_s (call $task_id) (i64.const 0))
          (i64.lt_s (call $remaining_ns) (i64.const 0x7fffffffffffffff)))
      (then (call $output_write (i32.const 69) (i32.const 4)))
      (else (call $output_write (i32.const 64) (i32.const 5))))
    (i32.const 0))

  ;; What the initializer loaded, as JSON.
  (func (export "stockade.task.loaded") (result i32)
    (if (global.get $loaded)
      (then (call $output_write (i32.const 82) (i32.const 2)))
      (else (call $output_write (i32.const 80) (i32.const 1))))
    (i32.const 0))

  ;; Runs once; every task then starts from the memory and the globals that it left.
  (func (export "stockade.task.load") (result i32)
    (global.set $loaded (i32.const 1))
    (i32.const 0))

  ;; Half of a number: numbers need no host call.
  (func (export "half") (param $x f64) (result f64)
    (f64.div (local.get $x) (f64.const 2))))
