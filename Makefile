# make run       sets up what is missing and opens Capsid (without a display: the tour in this terminal)
# make test      everything that can be tested here
# make lab       what needs a real /dev/kvm, on an emulated machine that has one
# make lab-arm64  the same on an arm64 machine, which takes long and is no part of make test
# make lint      gofmt, go vet, staticcheck, govulncheck
# make bench     figures, each beside a peer in the same run
# make bench-lab  our VMM beside QEMU's microvm on the lab's /dev/kvm: boots, disks, link; and what a machine costs
# make image     builds the guest image, if it is not there or its parts changed
# make clean     removes the programs; images and sessions stay (capsid image ls, capsid ps)

SHELL = /bin/bash
GO ?= go
export CAPSID_BIN = $(CURDIR)/bin
TEST_FLAGS ?= -count=1 -timeout 60m
# Packages that boot machines or open windows: one at a time, since emulation takes all processors that there are.
MACHINES = ./vmm/soft ./app/lab ./app/capsid ./app/e2e ./app/ui
# Packages that are tested on the lab's /dev/kvm, one after another; and of app/e2e what is about it.
LAB ?= ./vmm/kvm/board ./vmm/kvm
LAB_E2E ?= TestSessionOnKVM|TestForkOnKVM
LAB_ARM64 ?= ./vmm/kvm/board ./vmm/kvm
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: run test lab lab-arm64 lint bench bench-lab deps image build desktop clean

run: deps image desktop
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then exec bin/capsid-desktop; else exec bin/capsid tour; fi

deps:
	@sh packaging/deps.sh run

# The agent is a part of the image: without a stamp it, and so the image, stays the same from one commit to the next.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -buildvcs=false -o bin/capsid-agent ./guest/agent/init
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o bin/capsid ./app/capsid
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o bin/capsid-lab ./app/lab

desktop: build
	$(GO) build -trimpath -o bin/capsid-desktop ./app/desktop

image: build
	bin/capsid image build

# The test programs of vmm/soft and app/lab are the first processes of machines too, so they are linked statically.
test:
	@sh packaging/deps.sh test
	$(MAKE) image desktop
	$(GO) test $(TEST_FLAGS) $(filter-out $(MACHINES:./%=capsid/%),$(shell $(GO) list ./...))
	CGO_ENABLED=0 $(GO) test $(TEST_FLAGS) -p 1 ./vmm/soft ./app/lab
	$(GO) test $(TEST_FLAGS) -p 1 $(filter-out ./vmm/soft ./app/lab,$(MACHINES))
	$(MAKE) lab

lab:
	@sh packaging/deps.sh test
	$(MAKE) image
	CGO_ENABLED=0 $(GO) test $(TEST_FLAGS) -p 1 -exec "'$(CURDIR)/bin/capsid-lab'" $(LAB)
	CGO_ENABLED=0 $(GO) test $(TEST_FLAGS) -exec "'$(CURDIR)/bin/capsid-lab'" -run '$(LAB_E2E)' ./app/e2e

# Emulation of emulation: no image, and only what is of arm64. Idle, two cores take three minutes for it (a Debian kernel of the inner machine boots in ten seconds); busy, eight.
lab-arm64:
	@sh packaging/deps.sh lab-arm64
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-s -o bin/capsid-lab ./app/lab
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -trimpath -ldflags=-s -o bin/capsid-lab-arm64 ./app/lab
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test $(TEST_FLAGS) -p 1 -exec "'$(CURDIR)/bin/capsid-lab'" $(LAB_ARM64)

lint:
	@sh packaging/deps.sh lint
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt differs:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@$(GO) run $(GOVULNCHECK) ./... || { s=$$?; [ $$s -ne 1 ] && exit $$s; echo "govulncheck: NOT checked, its database cannot be reached"; }

bench:
	@sh packaging/deps.sh bench
	$(MAKE) image desktop
	$(GO) test -run '^$$' -bench . ./proxy ./app/terminal
	$(GO) test -run '^$$' -bench . -benchtime 3x -timeout 30m ./app/e2e

# The peer is the host's QEMU, its vsock the lab's own kernel.
bench-lab:
	@sh packaging/deps.sh test
	$(MAKE) image
	CGO_ENABLED=0 $(GO) test -run '^$$' -bench . -benchtime 3x -timeout 30m \
		-exec "'$(CURDIR)/bin/capsid-lab' -module vhost_vsock -with '$$(command -v qemu-system-x86_64)' -with /usr/share/qemu/qboot.rom" -p 1 ./vmm/kvm/board ./vmm/kvm

clean:
	rm -rf bin
