# make run       sets up what is missing and opens Capsid (without a display: the tour in this terminal)
# make test      everything that can be tested here
# make lint      gofmt, go vet, staticcheck, govulncheck
# make bench     figures, each beside a peer in the same run
# make image     builds the guest image, if it is not there or its parts changed
# make clean     removes the programs; images and sessions stay (capsid image ls, capsid ps)

SHELL = /bin/bash
GO ?= go
export CAPSID_BIN = $(CURDIR)/bin
# One processor's worth of packages at a time where machines are booted: they measure nothing, but emulation is slow.
TEST_FLAGS ?= -timeout 25m
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: run test lint bench deps deps-test image build desktop clean

run: deps image desktop
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then exec bin/capsid-desktop; else exec bin/capsid tour; fi

deps:
	@sh packaging/deps.sh run

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o bin/capsid-agent ./guest/agent/init
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o bin/capsid ./app/capsid

desktop: build
	$(GO) build -trimpath -o bin/capsid-desktop ./app/desktop

image: build
	bin/capsid image build

clean:
	rm -rf bin
