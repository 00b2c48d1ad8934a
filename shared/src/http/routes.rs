//! The one list of a service's routes, from which its router and its series are made.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};

use crate::metrics::RouteSeries;

/// Routes, each with the status of its success. They are known before there is a state to serve them with.
pub struct Routes<S> {
    router: Router<S>,
    series: Vec<RouteSeries>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), series: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Adds a route for GET.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, success: u16, handler: impl Handler<T, S>) -> Self {
        self.add(("GET", path, success), get(handler))
    }

    /// Adds a route for POST.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, success: u16, handler: impl Handler<T, S>) -> Self {
        self.add(("POST", path, success), post(handler))
    }

    /// Adds a route for DELETE.
    #[must_use]
    pub fn delete<T: 'static>(self, path: &'static str, success: u16, handler: impl Handler<T, S>) -> Self {
        self.add(("DELETE", path, success), delete(handler))
    }

    fn add(mut self, series: RouteSeries, route: MethodRouter<S>) -> Self {
        self.series.push(series);
        Self { router: self.router.route(series.1, route), ..self }
    }

    /// Each route's method, path and success.
    pub fn series(&self) -> impl Iterator<Item = RouteSeries> {
        self.series.iter().copied()
    }

    /// What serves them.
    pub fn into_router(self) -> Router<S> {
        self.router
    }
}
