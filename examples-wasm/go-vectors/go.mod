module vectors

go 1.24

require stockade v0.0.0

replace stockade => ../../guest-sdk/go/stockade
