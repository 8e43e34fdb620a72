module stockade

go 1.24
