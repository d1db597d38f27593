package testkit

import (
	"flag"
	"strconv"
	"testing"
)

// Parallel lets n parallel tests of a package run at a time if the run is short (-short) and -parallel does not say
// otherwise. It is for tests that wait more than they compute: by default as many run as there are processors. TestMain
// calls it, before the tests run.
func Parallel(n int) {
	if !flag.Parsed() {
		flag.Parse()
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if testing.Short() && !given {
		_ = flag.Set("test.parallel", strconv.Itoa(n)) // it is there in every test
	}
}
