const words = "to be or not to be".split(" ");
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
console.log(JSON.stringify([...counts].sort()));
console.log(2n ** 100n, [3, 1, 2].toSorted(), /(?<year>\d{4})/.exec("in 2026").groups.year);
