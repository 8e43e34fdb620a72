# What a program in Python does: text, numbers, a file, the standard library's C modules.
import hashlib
import json
import sys
import zlib

book = open("/book/alice.txt", encoding="utf-8").read()
words = {}
for word in book.lower().split():
    words[word] = words.get(word, 0) + 1
commonest = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:5]
print(json.dumps({"version": sys.version.split()[0], "words": sum(words.values()), "commonest": commonest}))
print(hashlib.sha256(book.encode()).hexdigest())
print(2 ** 200 % 10 ** 20, len(zlib.compress(book.encode(), 9)))
with open("/made/written.txt", "w", encoding="utf-8") as file:
    file.write("".join(sorted(words))[:100])
sys.exit(7)
