// Lists and watches, with client-go, every resource that the server of KUBECONFIG offers, in the encoding that the first argument names.
//
// Every kind has an object when this starts: a list holds it, and a watch begins with it. Says what it found in one line of JSON; says
// what was wrong on standard error, and ends with 1. Never writes to the server.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// What the server has under a version, and how to ask for it.
type source interface {
	list(ctx context.Context) (runtime.Object, error)
	watch(ctx context.Context) (watch.Interface, error)
}

// Types that client-go has: decoded from the encoding under test.
type typed struct {
	client *rest.RESTClient
	gvk    schema.GroupVersionKind
	name   string
}

func (t typed) list(ctx context.Context) (runtime.Object, error) {
	into, err := scheme.Scheme.New(t.gvk.GroupVersion().WithKind(t.gvk.Kind + "List"))
	if err != nil {
		return nil, err
	}
	return into, t.client.Get().Resource(t.name).Do(ctx).Into(into)
}

func (t typed) watch(ctx context.Context) (watch.Interface, error) {
	options := metav1.ListOptions{Watch: true}
	return t.client.Get().Resource(t.name).VersionedParams(&options, scheme.ParameterCodec).Watch(ctx)
}

// Types of the server's other modules: without a type, in JSON.
type untyped struct{ client dynamic.ResourceInterface }

func (u untyped) list(ctx context.Context) (runtime.Object, error) {
	return u.client.List(ctx, metav1.ListOptions{})
}

func (u untyped) watch(ctx context.Context) (watch.Interface, error) {
	return u.client.Watch(ctx, metav1.ListOptions{})
}

func restClient(config *rest.Config, version schema.GroupVersion) (*rest.RESTClient, error) {
	own := rest.CopyConfig(config)
	own.GroupVersion = &version
	own.APIPath = "/apis"
	if version.Group == "" {
		own.APIPath = "/api"
	}
	own.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.RESTClientFor(own)
}

// Lists, then watches from the start until the first event.
func check(ctx context.Context, from source, resource metav1.APIResource) error {
	list, err := from.list(ctx)
	if err != nil {
		return err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return fmt.Errorf("none is listed")
	}
	if !slices.Contains(resource.Verbs, "watch") {
		return nil
	}
	watching, err := from.watch(ctx)
	if err != nil {
		return err
	}
	defer watching.Stop()
	select {
	case event := <-watching.ResultChan():
		object, err := meta.Accessor(event.Object)
		if event.Type != watch.Added || err != nil || object.GetName() == "" {
			return fmt.Errorf("a watch begins with %v %v (%v)", event.Type, event.Object, err)
		}
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("a watch says nothing")
	}
}

func run(contentType string) (found map[string]any, wrong []string, err error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, nil, err
	}
	config.QPS, config.Burst, config.WarningHandler = 1000, 1000, rest.NoWarnings{}
	loose, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	config.ContentType, config.AcceptContentTypes = contentType, contentType
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	_, offered, err := discover.ServerGroupsAndResources()
	if err != nil {
		return nil, nil, err
	}

	var mutex sync.Mutex
	var group sync.WaitGroup
	seats := make(chan struct{}, 4)
	versions, checked, plain := []string{}, 0, 0
	for _, list := range offered {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, nil, err
		}
		versions = append(versions, list.GroupVersion)
		client, err := restClient(config, version)
		if err != nil {
			return nil, nil, err
		}
		for _, resource := range list.APIResources {
			if strings.Contains(resource.Name, "/") || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			checked++
			kind := version.WithKind(resource.Kind)
			var from source = typed{client, kind, resource.Name}
			if !scheme.Scheme.Recognizes(kind) {
				plain++
				from = untyped{loose.Resource(version.WithResource(resource.Name))}
			}
			group.Go(func() {
				seats <- struct{}{}
				defer func() { <-seats }()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := check(ctx, from, resource); err != nil {
					mutex.Lock()
					defer mutex.Unlock()
					wrong = append(wrong, fmt.Sprintf("%v: %v", kind, err))
				}
			})
		}
	}
	group.Wait()
	slices.Sort(versions)
	return map[string]any{"versions": versions, "listed": checked, "untyped": plain}, wrong, nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: clients application/json|application/vnd.kubernetes.protobuf")
		os.Exit(2)
	}
	found, wrong, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	line, _ := json.Marshal(found)
	fmt.Println(string(line))
	for _, line := range wrong {
		fmt.Fprintln(os.Stderr, line)
	}
	if len(wrong) > 0 {
		os.Exit(1)
	}
}
