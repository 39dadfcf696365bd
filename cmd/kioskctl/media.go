package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"vcckiosk/agent"
)

// maxMedia is the largest file any platform takes; the daemon knows better by
// type.
const maxMedia = 2 << 20

func (t *tool) mediaCommand() *cobra.Command {
	m := t.group("media", "Files for the platform", `Photos, receipts and voices are uploaded when nothing else is to be told; a result of a
card never waits for one. What the platform refuses is parked with its reason.`)
	var kind, name string
	up := t.leaf("upload FILE", "Hand a file over for upload", `Hands a file to kioskd, which keeps it and has it uploaded. What the platform would not take
is refused at once: images are PNG, JPEG or GIF of 2 MB at most, voices AMR or MP3 of 2 MB
and 60 s, thumbs JPEG of 64 KB. The file's name is told to the platform; it should name
no person.`, "  kioskctl media upload door.jpg --type image", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		st, err := f.Stat()
		switch {
		case err != nil:
			return err
		case !st.Mode().IsRegular() || st.Size() > maxMedia:
			return usage(args[0] + " is no file of at most 2 MB")
		case name == "":
			name = filepath.Base(args[0])
		}
		e, err := t.api().Upload(ctx, kind, name, f, st.Size())
		if err != nil {
			return err
		}
		t.show(e, func(w io.Writer) {
			fmt.Fprintf(w, "%.8s\t%s\t%s\n", e.ID, e.Name, mediaState(agent.MediaFile{Entry: e}))
		})
		return nil
	})
	up.Flags().StringVar(&kind, "type", "image", "image, voice or thumb")
	up.Flags().StringVar(&name, "name", "", "its `name` at the platform; default: the file's own")
	m.AddCommand(up,
		t.leaf("ls", "List, newest first", "Lists the files that wait and those uploaded lately, with the platform's names for them.",
			"  kioskctl media ls", cobra.NoArgs, func(ctx context.Context, _ []string) error {
				files := []agent.MediaFile{}
				if err := t.api().Get(ctx, "/v1/media", &files); err != nil {
					return err
				}
				t.show(files, func(w io.Writer) {
					fmt.Fprintln(w, "id\ttype\tname\tbytes\tcreated\ttries\tstate")
					for _, f := range files {
						fmt.Fprintf(w, "%.8s\t%s\t%s\t%d\t%s\t%d\t%s\n", f.ID, f.Type, f.Name, f.Size, f.Created.Local().Format(time.DateTime), f.Tries, mediaState(f))
					}
				})
				return nil
			}),
		t.leaf("drop ID", "Give a file up", "Removes a file that waits, with its content. ID is what media ls shows, or more of it.",
			"  kioskctl media drop 1a2b3c4d", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
				files := []agent.MediaFile{}
				if err := t.api().Get(ctx, "/v1/media", &files); err != nil {
					return err
				}
				var id string
				for _, f := range files {
					if len(args[0]) >= 8 && len(args[0]) <= len(f.ID) && f.ID[:len(args[0])] == args[0] {
						if id != "" {
							return usage(args[0] + " begins more than one id")
						}
						id = f.ID
					}
				}
				if id == "" {
					return usage("no id begins with " + args[0] + "; see media ls")
				}
				return t.api().Post(ctx, "/v1/media/"+id+"/drop", nil, nil)
			}))
	return m
}

func mediaState(f agent.MediaFile) string {
	switch {
	case f.MediaID != "":
		return "uploaded: " + f.MediaID
	case f.Parked != "":
		return "parked: " + f.Parked
	case f.Why != "":
		return "waits: " + f.Why
	}
	return "waits"
}
