package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain plays qemu when a test put this program in its place: it prints what
// a console would, and then ends or hangs.
func TestMain(m *testing.M) {
	console, played := os.LookupEnv("VM_TEST_CONSOLE")
	if !played {
		os.Exit(m.Run())
	}
	fmt.Print(console)
	if os.Getenv("VM_TEST_HANG") != "" {
		select {}
	}
}

func TestResultsAreWhatTheCommandsPrintedAndReturned(t *testing.T) {
	commands := []string{"iptables --version", "false"}
	playQemu(t, "[ 0.1] booting\r\n"+framed(0, "iptables v1.8.11 (nf_tables)\r\nsecond line\r\n", 0)+framed(1, "", 1)+"bye\r\n")
	got, err := (&Machine{Arch: "arm64", Kernel: "Image", Memory: 512}).Run(t.Context(), "initrd", commands)
	want := []Result{
		{Command: commands[0], Output: "iptables v1.8.11 (nf_tables)\nsecond line", Code: 0},
		{Command: commands[1], Code: 1},
	}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestPanicIsAnErrorWithTheConsole(t *testing.T) {
	playQemu(t, framed(0, "fine\r\n", 0)+"\r\n"+begin(1)+"\r\nKernel panic - not syncing\r\n")
	got, err := (&Machine{Arch: "arm64"}).Run(t.Context(), "initrd", []string{"a", "b", "c"})
	if err == nil || !strings.Contains(err.Error(), "command 2 of 3") || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("got %v, want the command that did not end and the console", err)
	}
	if len(got) != 1 || got[0].Output != "fine" {
		t.Errorf("got %+v, want the first command's result", got)
	}
}

func TestMachineEndsWithTheContext(t *testing.T) {
	playQemu(t, framed(0, "", 0))
	t.Setenv("VM_TEST_HANG", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Machine{Arch: "arm64"}).Run(ctx, "initrd", []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
}

func TestMissingEmulatorIsAnError(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := (&Machine{Arch: "arm64"}).Run(t.Context(), "initrd", nil); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want: not found", err)
	}
}

func TestUnknownArchitectureIsAnError(t *testing.T) {
	if _, err := (&Machine{Arch: "riscv64"}).Run(t.Context(), "initrd", nil); err == nil || !strings.Contains(err.Error(), `"riscv64"`) {
		t.Errorf("got %v, want the architecture refused", err)
	}
}

// Two machines may share a disk, and a comma would end its name.
func TestDiskIsNeverWrittenTo(t *testing.T) {
	with := Machine{Disk: "/cache/a,b.img", Append: []string{"selinux=1"}}
	got := strings.Join(with.options("ttyS0", "initrd"), " ")
	for _, want := range []string{" -drive if=virtio,format=raw,cache=unsafe,snapshot=on,file=/cache/a,,b.img", " -append console=ttyS0 quiet loglevel=1 panic=-1 rdinit=/init selinux=1 "} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want%s", got, want)
		}
	}
	if got := strings.Join((&Machine{}).options("ttyS0", "initrd"), " "); strings.Contains(got, "-drive") {
		t.Errorf("without a disk: got %s", got)
	}
}

// The commands go through a shell twice.
func TestScriptPassesCommandsToTheShellUnchanged(t *testing.T) {
	sh, err := exec.LookPath("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{`echo "it's" '$HOME' \\`, "exit 7", "echo one; echo two >&2"}
	if !strings.Contains(string(Script(commands)), string(Commands(commands))) {
		t.Errorf("got script %q, want the commands in it", Script(commands))
	}
	out, err := exec.Command(sh, "-c", string(Commands(commands))).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	got := Results(string(out), commands)
	want := []Result{{commands[0], `it's $HOME \`, 0}, {commands[1], "", 7}, {commands[2], "one\ntwo", 0}}
	if len(got) != len(want) {
		t.Fatalf("got %+v of %q, want %+v", got, out, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

func TestEndlessConsoleIsKeptToItsLimit(t *testing.T) {
	var l limited
	for range consoleLimit/(1<<20) + 3 {
		if n, err := l.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
			t.Fatalf("got %d, %v; want everything taken", n, err)
		}
	}
	if l.Len() != consoleLimit {
		t.Errorf("got %d bytes kept, want %d", l.Len(), consoleLimit)
	}
}

func FuzzResults(f *testing.F) {
	f.Add(framed(0, "x\r\n", 0) + framed(1, "", 1))
	f.Add(framed(0, "x\r\n", 0) + "\r\n" + begin(1))
	f.Add("\n" + begin(0) + "\n" + end(0) + "999999999999999999999\n")
	f.Add("\n" + begin(0) + "\n" + begin(0) + "\n\n" + end(0) + "0")
	f.Fuzz(func(t *testing.T, console string) {
		commands := []string{"a", "b"}
		for i, r := range Results(console, commands) {
			if r.Command != commands[i] || len(r.Output) > len(console) || strings.Contains(r.Output, "\r") {
				t.Errorf("result %d: got %+v", i, r)
			}
		}
	})
}

func framed(i int, output string, code int) string {
	return fmt.Sprintf("\r\n%s\r\n%s\r\n%s%d\r\n", begin(i), output, end(i), code)
}

func playQemu(t *testing.T, console string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "qemu-system-aarch64")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("VM_TEST_CONSOLE", console)
}
