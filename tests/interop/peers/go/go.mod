module github.com/QSIGN/Q-TLS/tests/interop/peers/go

go 1.26.0

toolchain go1.26.8
