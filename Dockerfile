# One image with the three services: /usr/local/bin/auth, mailer and socket. Nothing else is in it but
# the certificates of public authorities; there is no shell, and it does not run as root.
#
#   docker build -t parley .
#   docker run parley /usr/local/bin/auth --help
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/bin/ ./apps/auth ./apps/mailer ./apps/socket
RUN mkdir -p /out/data /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bin/ /usr/local/bin/
# A volume that is empty takes its owner from here.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/tmp /tmp
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /data
CMD ["/usr/local/bin/auth"]
