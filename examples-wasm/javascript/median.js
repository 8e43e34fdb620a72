// The median of the numbers on standard input, one a line; what is no number is counted and told.
import * as std from "qjs:std";

const numbers = [];
let others = 0;
for (let line; (line = std.in.getline()) !== null; ) {
  const number = Number(line);
  if (line.trim() && Number.isFinite(number)) numbers.push(number);
  else if (line.trim()) others++;
}
if (others) std.err.puts(`lines that are no number: ${others}\n`);
if (!numbers.length) {
  std.err.puts("no numbers\n");
  std.exit(1);
}
numbers.sort((a, b) => a - b);
const middle = numbers.length >> 1;
const median = numbers.length % 2 ? numbers[middle] : (numbers[middle - 1] + numbers[middle]) / 2;
print(JSON.stringify({ count: numbers.length, median }));
