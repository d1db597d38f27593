package realtime

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever waits for a latch is seen to wait: with a mutex, the bubble would never come to rest, and its clock would stand.
func TestWaitingForALatchIsWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l latch
		l.Lock()
		if l.TryLock() {
			t.Fatal("a latch that is held was taken")
		}
		taken := make(chan int, 3)
		for i := range 3 {
			go func() {
				l.Lock()
				defer l.Unlock()
				taken <- i
			}()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if len(taken) > 0 {
			t.Fatal("two have the latch")
		}
		l.Unlock()
		for want := range 3 {
			if got := <-taken; got != want {
				t.Errorf("%d has the latch before %d, who has waited longer", got, want)
			}
		}
		synctest.Wait()
		if !l.TryLock() {
			t.Error("nobody has the latch, and it is not free")
		}
	})
}
