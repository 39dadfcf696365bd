//go:build rig

package rigtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"vcckiosk/agent/journal"
	"vcckiosk/agent/topup"
	"vcckiosk/queue"
)

// TestFootprint prints what an idle kiosk costs beside what it may. Nothing
// here fails on a time: machines differ; people read the table.
func TestFootprint(t *testing.T) {
	if os.Getenv("FOOTPRINT") == "" {
		t.Skip("takes half a minute of waiting: run by make footprint")
	}
	r := newRig(t)
	k := r.kiosks[0]
	must(t, k.p.end(syscall.SIGTERM))
	fill(t, filepath.Join(k.dir, "state", "agent.db"), 10_000)

	ready := time.Hour
	for range 5 {
		ready = min(ready, k.untilReady(t))
	}
	must(t, k.on(t))
	k.serving(t)
	c := newPurse(94, false)
	must(t, r.platform.post("/sim/cards", c.book()))
	for range 20 { // warm: a kiosk that has worked
		_, err := r.sell(c)
		must(t, err)
		_, _, err = k.visit(t.Context(), c, 20*time.Second)
		must(t, err)
	}
	time.Sleep(70 * time.Second) // what the last customer left behind is delivered
	pid := k.p.cmd.Process.Pid
	const idle = 30 * time.Second
	woken, wrote := wakeups(t, pid), number(t, pid, "io", "write_bytes:")
	time.Sleep(idle)
	woken, wrote = wakeups(t, pid)-woken, number(t, pid, "io", "write_bytes:")-wrote
	limit := 4
	if os.Getenv("RIG_READER") == "sim" {
		limit = 2
	}
	st, err := os.Stat(program(t, "kioskd"))
	must(t, err)
	mb := func(kb int) float64 { return float64(kb) / 1024 }
	fmt.Printf("%-46s %10s %10s\n", "footprint, reader "+reader(), "is", "may be")
	for _, row := range []struct {
		what    string
		is, may string
	}{
		{"binary" + map[string]string{"pcsc": ", as shipped", "sim": ", never shipped, with symbols"}[reader()], fmt.Sprintf("%.1f MB", float64(st.Size())/1e6), "16 MB"},
		{"exec to ready, 10,000 records, best of 5", fmt.Sprintf("%d ms", ready.Milliseconds()), "100 ms"},
		{"memory, idle (RSS)", fmt.Sprintf("%.1f MB", mb(number(t, pid, "status", "VmRSS:"))), "25 MB"},
		{"  of it the program's own (RssAnon)", fmt.Sprintf("%.1f MB", mb(number(t, pid, "status", "RssAnon:"))), ""},
		{"wake-ups, idle, all threads", fmt.Sprintf("%.1f /s", float64(woken)/idle.Seconds()), fmt.Sprintf("%d /s", limit)},
		{"written, idle", fmt.Sprintf("%d B in %v", wrote, idle), "0 B"},
		{"open files", strconv.Itoa(openFiles(t, pid)), ""},
		{"threads", strconv.Itoa(number(t, pid, "status", "Threads:")), ""},
	} {
		fmt.Printf("%-46s %10s %10s\n", row.what, row.is, row.may)
	}
}

func reader() string {
	if os.Getenv("RIG_READER") == "sim" {
		return "sim"
	}
	return "pcsc"
}

// fill puts closed records into a journal, two versions each.
func fill(t testing.TB, path string, n int) {
	t.Helper()
	db, err := queue.OpenFile(t.Context(), path, queue.FileOptions{})
	must(t, err)
	defer db.Close()
	w := queue.NewWriter(db, queue.WriterOptions{})
	j, err := journal.Open(w)
	must(t, err)
	for at := 0; at < n; at += 500 {
		must(t, w.Do(t.Context(), func(tx *bbolt.Tx) error {
			for i := at; i < at+500; i++ {
				r := topup.Record{
					Version: 1, TransNo: topup.NewTransNo(), Phase: topup.Written, Kind: topup.Load, OrderNo: fmt.Sprintf("F%08d", i),
					Amount: 5000, Volume: 1666, Card: topup.Card{Type: "CPU", No: fmt.Sprintf("86%014d", i%300), Hash: fmt.Sprintf("%032X", i%300)},
					Begun: topup.Millis(time.Now().UnixMilli()), Outcome: topup.OutcomeWritten, Basis: topup.ByAnswer, Rev: 1,
					Load: &topup.LoadPlan{Type: 2, Terminal: "112233445566", Amount: 5000, Seq: uint16(i), HostDate: "20261124", HostTime: "101112"},
				}
				if err := j.Put(tx, r); err != nil {
					return err
				}
				r.Phase, r.AckRev, r.AckState = topup.Closed, 1, topup.SettledState
				if err := j.Put(tx, r); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// untilReady is the time from exec until the daemon tells systemd that it is
// ready.
func (k *kiosk) untilReady(t testing.TB) time.Duration {
	t.Helper()
	sock := filepath.Join(k.dir, "notify")
	_ = os.Remove(sock)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program(t, "kioskd"), "--config", k.config)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+k.pcscd.socket, "NOTIFY_SOCKET="+sock)
	cmd.Env = append(cmd.Env, unitEnvironment(t)...)
	from := time.Now()
	p, err := launch(filepath.Join(k.dir, "kioskd.log"), cmd)
	must(t, err)
	must(t, l.SetReadDeadline(time.Now().Add(20*time.Second)))
	b := make([]byte, 1024)
	for {
		n, err := l.Read(b)
		must(t, err)
		if strings.Contains(string(b[:n]), "READY=1") {
			break
		}
	}
	took := time.Since(from)
	must(t, p.end(syscall.SIGTERM))
	return took
}

// number reads one field of a file of /proc.
func number(t testing.TB, pid int, file, field string) int {
	t.Helper()
	return procNumber(t, fmt.Sprintf("/proc/%d/%s", pid, file), field)
}

func procNumber(t testing.TB, path, field string) int {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return 0 // a thread that has ended
	}
	must(t, err)
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), field); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			must(t, err)
			return n
		}
	}
	t.Fatalf("%s has no %s", path, field)
	return 0
}

// wakeups are all times a thread of the process gave up the processor of its
// own will, and so was woken again.
func wakeups(t testing.TB, pid int) (n int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	for _, task := range tasks {
		n += procNumber(t, fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()), "voluntary_ctxt_switches:")
	}
	return n
}

func openFiles(t testing.TB, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(fds)
}

// unitEnvironment is what the shipped unit sets, so that memory is measured as
// it will be on a kiosk. In a system of its own systemd has set it already.
func unitEnvironment(t testing.TB) []string {
	t.Helper()
	unit, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "systemd", "kioskd.service"))
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	for line := range strings.Lines(string(unit)) {
		if vars, is := strings.CutPrefix(strings.TrimSpace(line), "Environment="); is {
			return strings.Fields(vars)
		}
	}
	t.Fatal("the unit sets no environment: has it moved?")
	return nil
}
