#!/usr/bin/env python3
"""Trains the model of the `classify` guest: softmax regression over four measurements.

Reads data/penguins.csv; writes data/model.json, and data/penguins.jsonl with the rows in the form
that the guest's tasks take. Every fifth row of each species is kept out of the training and tells
how good the model is. Needs nothing but Python, and gives the same model every time: descent
starts at zero and goes over all rows at once.
"""

import csv
import json
import math
import pathlib

DATA = pathlib.Path(__file__).parent / "data"
FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
STEPS = 2000
RATE = 0.5
# Keeps weights small, so that a probability is not claimed more surely than 300 rows allow.
DECAY = 0.001


def read_rows():
    """The rows that were measured: two of 344 were not, and say `NA`."""
    with open(DATA / "penguins.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["body_mass_g"] != "NA"]
    return [(row["species"], [float(row[name]) for name in FEATURES]) for row in rows]


def split(rows):
    """Every fifth row of each species for the test, the rest for the training."""
    seen = {}
    training, test = [], []
    for row in rows:
        seen[row[0]] = seen.get(row[0], 0) + 1
        (test if seen[row[0]] % 5 == 0 else training).append(row)
    return training, test


def standardiser(rows):
    """Mean and deviation of each feature, by which all of them come to the same scale."""
    columns = list(zip(*(features for _, features in rows)))
    means = [sum(column) / len(column) for column in columns]
    deviations = [
        math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
        for column, mean in zip(columns, means)
    ]
    return means, deviations


def softmax(scores):
    largest = max(scores)
    powers = [math.exp(score - largest) for score in scores]
    return [power / sum(powers) for power in powers]


def probabilities(model, features):
    scaled = [
        (x - mean) / deviation
        for x, mean, deviation in zip(features, model["means"], model["deviations"])
    ]
    return softmax(
        [
            bias + sum(w * x for w, x in zip(weights, scaled))
            for weights, bias in zip(model["weights"], model["biases"])
        ]
    )


def train(rows):
    species = sorted({name for name, _ in rows})
    means, deviations = standardiser(rows)
    model = {
        "features": FEATURES,
        "species": species,
        "means": means,
        "deviations": deviations,
        "weights": [[0.0] * len(FEATURES) for _ in species],
        "biases": [0.0] * len(species),
    }
    for _ in range(STEPS):
        weight_slopes = [[DECAY * w for w in weights] for weights in model["weights"]]
        bias_slopes = [0.0] * len(species)
        for name, features in rows:
            predicted = probabilities(model, features)
            for k, probability in enumerate(predicted):
                miss = (probability - (species[k] == name)) / len(rows)
                bias_slopes[k] += miss
                for j, x in enumerate(features):
                    weight_slopes[k][j] += miss * (x - means[j]) / deviations[j]
        for k in range(len(species)):
            model["biases"][k] -= RATE * bias_slopes[k]
            for j in range(len(FEATURES)):
                model["weights"][k][j] -= RATE * weight_slopes[k][j]
    return model


def right(model, rows):
    """How many of the rows the model puts down to their species."""
    guesses = [probabilities(model, features) for _, features in rows]
    return sum(
        model["species"][guess.index(max(guess))] == name
        for guess, (name, _) in zip(guesses, rows)
    )


def rounded(value):
    return [rounded(x) for x in value] if isinstance(value, list) else (
        round(value, 6) if isinstance(value, float) else value
    )


def main():
    rows = read_rows()
    training, test = split(rows)
    model = {key: rounded(value) for key, value in train(training).items()}
    print(f"training: {right(model, training)} of {len(training)} right")
    print(f"test:     {right(model, test)} of {len(test)} right")
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in model.items())
    (DATA / "model.json").write_text(f"{{\n{lines}\n}}\n")
    with open(DATA / "penguins.jsonl", "w") as file:
        for _, features in rows:
            file.write(json.dumps(dict(zip(FEATURES, features))) + "\n")


if __name__ == "__main__":
    main()
