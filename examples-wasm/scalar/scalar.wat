;; Functions over plain numbers: the smallest thing that Stockade can call.
;;
;; Its one idea: no SDK is needed where parameters and results are i32, i64, f32 and f64. The host
;; checks arguments against the signature before it sends them, so a count, a kind or a range that
;; does not fit never arrives here.
;;
;;     stockade run scalar.wat gcd 1071 462        21
;;     stockade run scalar.wat divmod 17 5         [3, 2]
;;     stockade run scalar.wat divide 1 0          fails: division by zero
(module
  ;; What `next` counts; see there.
  (global $calls (mut i32) (i32.const 0))

  ;; The sum, which wraps around as i32 does.
  (func (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))

  ;; The point that lies $t of the way from $a to $b.
  (func (export "lerp") (param $a f32) (param $b f32) (param $t f32) (result f32)
    (f32.add
      (local.get $a)
      (f32.mul (f32.sub (local.get $b) (local.get $a)) (local.get $t))))

  ;; The longest side of a right-angled triangle. Scaled by the larger leg, so that legs whose
  ;; squares f64 cannot hold still have one.
  (func (export "hypot") (param $a f64) (param $b f64) (result f64)
    (local $long f64)
    (local $ratio f64)
    (local.set $a (f64.abs (local.get $a)))
    (local.set $b (f64.abs (local.get $b)))
    (local.set $long (f64.max (local.get $a) (local.get $b)))
    (if (f64.eq (local.get $long) (f64.const 0))
      (then (return (f64.const 0))))
    (local.set $ratio
      (f64.div (f64.min (local.get $a) (local.get $b)) (local.get $long)))
    (f64.mul
      (local.get $long)
      (f64.sqrt
        (f64.add (f64.const 1) (f64.mul (local.get $ratio) (local.get $ratio))))))

  ;; The greatest common divisor by Euclid's algorithm, of numbers read as unsigned.
  (func (export "gcd") (param $a i64) (param $b i64) (result i64)
    (local $rest i64)
    (loop $again
      (if (i64.ne (local.get $b) (i64.const 0))
        (then
          (local.set $rest (i64.rem_u (local.get $a) (local.get $b)))
          (local.set $a (local.get $b))
          (local.set $b (local.get $rest))
          (br $again))))
    (local.get $a))

  ;; How many steps of the Collatz sequence lead from $n to 1. Traps for 0 and below, from where
  ;; none do.
  (func (export "collatz_steps") (param $n i64) (result i32)
    (local $steps i32)
    (if (i64.le_s (local.get $n) (i64.const 0))
      (then (unreachable)))
    (block $done
      (loop $again
        (br_if $done (i64.eq (local.get $n) (i64.const 1)))
        (if (i64.eqz (i64.and (local.get $n) (i64.const 1)))
          (then
            (local.set $n (i64.shr_u (local.get $n) (i64.const 1))))
          (else
            (local.set $n
              (i64.add (i64.mul (local.get $n) (i64.const 3)) (i64.const 1)))))
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (br $again)))
    (local.get $steps))

  ;; The quotient. Traps where there is none: on 0, and on -2147483648 / -1, which i32 cannot hold.
  (func (export "divide") (param $dividend i32) (param $divisor i32) (result i32)
    (i32.div_s (local.get $dividend) (local.get $divisor)))

  ;; Quotient and remainder: a function may have several results.
  (func (export "divmod") (param $dividend i64) (param $divisor i64) (result i64 i64)
    (i64.div_s (local.get $dividend) (local.get $divisor))
    (i64.rem_s (local.get $dividend) (local.get $divisor)))

  ;; How often this instance was called: 1 every time where each task has an instance of its own,
  ;; and one more every time where an instance lives as long as its worker.
  (func (export "next") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (global.get $calls)))
