# What developers run. Users need none of it: see the README.
.PHONY: test short race lint ci bench bench-beside bench-socketio docs

test: # every test that needs no server
	go test ./...

short: # the same without the long ones
	go test -short ./...

race: # in random order, with the race detector
	go test -race -shuffle=on -count=1 -timeout 20m ./...

lint: # with the golangci-lint that .ci/run names, which is installed unless it is there
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	set -e; version=$$(sed -n 's/^lint=//p' .ci/run); lint=$$(go env GOPATH)/bin/golangci-lint; \
	if ! $$lint version 2>/dev/null | grep -q "version $${version#v}"; then go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$$version; fi; \
	$$lint run ./...

ci: # what must hold before a change lands; it installs servers, a browser and the linter
	bash .ci/run

bench: # idle members, sends and fan-out of this machine
	go run ./apps/parley bench idle --connections 5000 --duration 5s
	go run ./apps/parley bench send --senders 100 --in-flight 16 --duration 5s
	go run ./apps/parley bench fanout --connections 1000 --messages 400

bench-beside: # in turn with others: a bare loop over epoll, Centrifuge, and the npm server of Socket.IO
	set -e; folder=$$(mktemp -d); trap "rm -rf $$folder" EXIT; go build -o $$folder/parley ./apps/parley; \
	(cd apps/internal/bench/centrifuge && go build -o $$folder/centrifuge .); \
	for beside in "native $$folder/parley bench floor" "centrifuge $$folder/centrifuge"; do wire=$${beside%% *}; command=$${beside#* }; \
		$$folder/parley bench idle --connections 15000 --duration 5s --beside "$$command" --beside-wire $$wire; \
		$$folder/parley bench fanout --connections 15000 --messages 20 --in-flight 1 --beside "$$command" --beside-wire $$wire; \
		$$folder/parley bench fanout --connections 1000 --messages 400 --beside "$$command" --beside-wire $$wire; done
	$(MAKE) bench-socketio

bench-socketio: # Socket.IO, in turn with its npm server, which is installed into a temporary folder
	set -e; folder=$$(mktemp -d); trap "rm -rf $$folder" EXIT; cp apps/internal/bench/socketio/* $$folder; npm ci --prefix $$folder --no-audit --no-fund; \
	go build -o $$folder/parley ./apps/parley; for what in "idle --connections 15000 --duration 30s" "fanout --connections 1000 --messages 400" "fanout --connections 15000 --messages 20 --in-flight 1"; do \
		$$folder/parley bench $$what --wire socketio --rounds 3 --beside "node --expose-gc $$folder/server.mjs"; done

docs: # what the program prints; a program that does not build leaves them as they are
	set -e; folder=$$(mktemp -d); trap "rm -rf $$folder" EXIT; go build -o $$folder/parley ./apps/parley; \
	$$folder/parley openapi > docs/openapi.yaml; $$folder/parley openapi --admin > docs/openapi-admin.yaml; \
	$$folder/parley asyncapi > docs/asyncapi.yaml; $$folder/parley types > apps/web/client/events.d.ts
