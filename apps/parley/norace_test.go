//go:build !race

package main_test

// raceDetector says whether the tests, and so the program, are built with the race detector.
const raceDetector = false
